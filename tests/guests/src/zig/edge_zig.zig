//! Capabilities by JSON: {"op": "kv.get", "namespace": ..., "key": ...}.
const std = @import("std");
const edge = @import("edge");

const Command = struct {
    op: []const u8,
    namespace: []const u8 = "",
    key: []const u8 = "",
    value: []const u8 = "",
    ttlMs: ?u64 = null,
    by: i64 = 1,
    etag: ?[]const u8 = null,
    prefix: []const u8 = "",
    cursor: ?[]const u8 = null,
    limit: ?u16 = null,
    url: []const u8 = "",
    method: []const u8 = "GET",
    headers: edge.Strings = .{},
    body: []const u8 = "",
    timeoutMs: ?u32 = null,
    manualRedirects: bool = false,
    queue: []const u8 = "",
    attributes: edge.Strings = .{},
};

const Operation = enum {
    @"http.fetch",
    @"kv.get",
    @"kv.set",
    @"kv.delete",
    @"kv.list",
    @"kv.increment",
    @"kv.cas",
    @"queue.publish",
    trace,
};

pub fn main() void {
    const c = edge.parse(Command, edge.readRequest().bytes()) orelse @trap();
    switch (std.meta.stringToEnum(Operation, c.op) orelse @trap()) {
        .@"http.fetch" => switch (edge.fetch(c.url, .{
            .method = c.method,
            .headers = c.headers,
            .body = c.body,
            .timeout_ms = c.timeoutMs,
            .max_redirects = if (c.manualRedirects) 0 else null,
        })) {
            .ok => |r| answer(.{ .ok = true, .status = r.status, .headers = r.headers, .url = r.url, .body = r.body }),
            .failed => |failure| fail(failure),
        },
        .@"kv.get" => switch (edge.kv.get(c.namespace, c.key)) {
            .ok => |entry| if (entry) |found|
                answer(.{ .ok = true, .found = true, .value = found.value, .etag = found.etag })
            else
                answer(.{ .ok = true, .found = false }),
            .failed => |failure| fail(failure),
        },
        .@"kv.set" => switch (edge.kv.set(c.namespace, c.key, c.value, c.ttlMs)) {
            .ok => |etag| answer(.{ .ok = true, .done = true, .etag = etag }),
            .failed => |failure| fail(failure),
        },
        .@"kv.delete" => switch (edge.kv.delete(c.namespace, c.key)) {
            .ok => |deleted| answer(.{ .ok = true, .deleted = deleted }),
            .failed => |failure| fail(failure),
        },
        .@"kv.list" => switch (edge.kv.list(c.namespace, .{ .prefix = c.prefix, .cursor = c.cursor, .limit = c.limit })) {
            .ok => |page| answer(.{ .ok = true, .keys = page.keys, .cursor = page.cursor }),
            .failed => |failure| fail(failure),
        },
        .@"kv.increment" => switch (edge.kv.increment(c.namespace, c.key, c.by)) {
            .ok => |value| answer(.{ .ok = true, .value = value }),
            .failed => |failure| fail(failure),
        },
        .@"kv.cas" => switch (edge.kv.compareAndSet(c.namespace, c.key, c.etag, c.value, c.ttlMs)) {
            .ok => |etag| answer(.{ .ok = true, .swapped = etag != null, .etag = etag }),
            .failed => |failure| fail(failure),
        },
        .@"queue.publish" => switch (edge.queue.publish(c.queue, c.body, c.attributes)) {
            .ok => |id| answer(.{ .ok = true, .id = id }),
            .failed => |failure| fail(failure),
        },
        .trace => switch (scenario()) {
            .ok => |seen| answer(seen),
            .failed => |failure| fail(failure),
        },
    }
}

const Seen = struct { ok: bool = true, outer: u32, inner: u32, again: []const u8 };

/// A span in a span, with an attribute and an event each, and what is refused.
fn scenario() edge.Result(Seen) {
    const outer = switch (edge.trace.start("outer", .{ .key = "v" })) {
        .ok => |span| span,
        .failed => |failure| return .{ .failed = failure },
    };
    const inner = switch (edge.trace.start("inner", .{})) {
        .ok => |span| span,
        .failed => |failure| return .{ .failed = failure },
    };
    for ([_]edge.Result(void){
        edge.trace.event(null, "tick", .{ .n = 1 }),
        edge.trace.set(outer, .{ .done = true }),
        edge.trace.end(inner, "it broke"),
        edge.trace.end(outer, null),
    }) |each| if (each == .failed) return .{ .failed = each.failed };
    const again = edge.trace.end(outer, null);
    return .{ .ok = .{
        .outer = @intFromEnum(outer),
        .inner = @intFromEnum(inner),
        .again = if (again == .failed) again.failed.code else "",
    } };
}

fn answer(value: anytype) void {
    edge.respondJson(200, value);
}

fn fail(failure: edge.Failure) void {
    answer(.{ .ok = false, .code = failure.code, .message = failure.message });
}
