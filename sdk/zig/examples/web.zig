//! The ten examples of docs/sdk-examples.md, one path for each.
const std = @import("std");
const edge = @import("edge");
const web = edge.web;

// example: hello
fn hello(request: edge.Request) void {
    web.respondText(200, web.print("Hello, {s}!\n", .{request.query.map.get("name") orelse "world"}));
}

// example: json
fn sum(request: edge.Request) void {
    const Asked = struct { numbers: []const i64 };
    const asked = edge.parse(Asked, request.bytes()) orelse return web.problem(400, "Not JSON", "send numbers");
    var total: i64 = 0;
    for (asked.numbers) |number| total += number;
    edge.respondJson(200, .{ .sum = total });
}

// example: query
fn tags(request: edge.Request) void {
    const all = web.queryAll(request, "tag");
    const lines = std.mem.join(edge.allocator, "\n", all) catch @trap();
    web.respondText(200, web.print("{s}{s}", .{ lines, if (all.len > 0) "\n" else "" }));
}

// example: cookies
fn visits(request: edge.Request) void {
    const before = std.fmt.parseInt(u32, web.cookie(request, "visits") orelse "0", 10) catch 0;
    const count = web.print("{d}", .{before + 1});
    const cookie = web.setCookie("visits", count, "Path=/; HttpOnly; SameSite=Lax");
    web.respond(200, &.{.{ "set-cookie", cookie }}, web.print("visit {s}", .{count}));
}

// example: form
fn order(request: edge.Request) void {
    const incomplete = .{ 400, "Incomplete order", "send count and item" };
    const count = web.form(request, "count") orelse return @call(.auto, web.problem, incomplete);
    const item_name = web.form(request, "item") orelse return @call(.auto, web.problem, incomplete);
    web.respondText(200, web.print("{s} x {s}", .{ count, item_name }));
}

// example: multipart
fn upload(request: edge.Request) void {
    const parts = web.multipart(request);
    if (parts.len == 0) return web.problem(400, "No file", "send multipart/form-data");
    edge.respondJson(200, .{
        .filename = parts[0].filename,
        .type = parts[0].content_type,
        .bytes = parts[0].body.len,
    });
}

// example: redirect
fn moved(_: edge.Request) void {
    web.redirect(308, "/hello?name=Ada");
}

// example: problem
fn item(request: edge.Request) void {
    const id = std.fmt.parseInt(u32, request.query.map.get("id") orelse "", 10) catch
        return web.problem(400, "Not a number", "id is to be a number");
    web.respondText(200, web.print("item {d}", .{id}));
}

// example: fetch
fn rates(_: edge.Request) void {
    web.log.info("asking for the rates");
    switch (edge.fetch("https://api.example.com/rates", .{})) {
        .ok => |got| edge.respond(got.status, .{ .@"content-type" = "application/json" }, got.body),
        .failed => |failure| {
            web.log.err(failure.message);
            web.problem(502, "No rates", failure.code);
        },
    }
}

// example: store
fn orders(request: edge.Request) void {
    const span = edge.trace.start("place order", .{});
    const number = switch (edge.kv.increment("shop", "orders", 1)) {
        .ok => |number| number,
        .failed => |failure| return web.problem(502, "Not stored", failure.message),
    };
    var attributes: edge.Strings = .{};
    attributes.map.put(edge.allocator, "kind", "new") catch @trap();
    switch (edge.queue.publish("orders", request.bytes(), attributes)) {
        .ok => {},
        .failed => |failure| return web.problem(502, "Not queued", failure.message),
    }
    if (span == .ok) _ = edge.trace.end(span.ok, null);
    web.respondText(202, web.print("order {d}", .{number}));
}

// example: end
const routes = std.StaticStringMap(*const fn (edge.Request) void).initComptime(.{
    .{ "/hello", hello },   .{ "/sum", sum },     .{ "/tags", tags }, .{ "/visits", visits }, .{ "/order", order },
    .{ "/upload", upload }, .{ "/moved", moved }, .{ "/item", item }, .{ "/rates", rates },   .{ "/orders", orders },
});

pub fn main() void {
    const request = edge.readRequest();
    const answer = routes.get(request.path) orelse return web.problem(404, "Not found", "there is no such example");
    answer(request);
}
