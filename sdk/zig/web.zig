//! What a web function needs beside edge.zig: query, cookies, forms, multipart, redirects, problems, logging.
//!
//!     const count = web.cookie(request, "visits") orelse "0";
//!     web.respond(200, &.{.{ "set-cookie", web.setCookie("visits", count, "Path=/; HttpOnly") }}, count);

const std = @import("std");
const edge = @import("edge.zig");
const allocator = edge.allocator;

/// A name, which may be repeated, and a value.
pub const Header = struct { []const u8, []const u8 };

pub const Part = struct {
    name: []const u8 = "",
    filename: ?[]const u8 = null,
    content_type: ?[]const u8 = null,
    body: []const u8,
};

/// All values of a key of the query.
pub fn queryAll(request: edge.Request, name: []const u8) []const []const u8 {
    if (request.multi_value_query.map.get(name)) |all| return all;
    const one = request.query.map.get(name) orelse return &.{};
    return allocator.dupe([]const u8, &.{one}) catch @trap();
}

/// A cookie, without the quotes that may be around its value.
pub fn cookie(request: edge.Request, name: []const u8) ?[]const u8 {
    var pairs = std.mem.splitScalar(u8, request.headers.map.get("cookie") orelse return null, ';');
    while (pairs.next()) |pair| {
        const at = std.mem.indexOfScalar(u8, pair, '=') orelse continue;
        if (!std.mem.eql(u8, trim(pair[0..at]), name)) continue;
        const value = trim(pair[at + 1 ..]);
        const quoted = value.len > 1 and value[0] == '"' and value[value.len - 1] == '"';
        return if (quoted) value[1 .. value.len - 1] else value;
    }
    return null;
}

/// The last value of a field of a form in the body (application/x-www-form-urlencoded).
pub fn form(request: edge.Request, name: []const u8) ?[]const u8 {
    var found: ?[]const u8 = null;
    var pairs = std.mem.splitScalar(u8, request.bytes(), '&');
    while (pairs.next()) |pair| {
        const at = std.mem.indexOfScalar(u8, pair, '=') orelse pair.len;
        if (std.mem.eql(u8, unquote(pair[0..at]), name)) found = unquote(pair[@min(at + 1, pair.len)..]);
    }
    return found;
}

/// A name or value of a form: + is a space, %XX is a byte.
fn unquote(text: []const u8) []const u8 {
    const out = allocator.alloc(u8, text.len) catch @trap();
    var length: usize = 0;
    var at: usize = 0;
    while (at < text.len) : (length += 1) {
        const hex = if (text[at] == '%' and at + 2 < text.len) std.fmt.parseInt(u8, text[at + 1 ..][0..2], 16) else error.Overflow;
        if (hex) |byte| {
            out[length] = byte;
            at += 3;
        } else |_| {
            out[length] = if (text[at] == '+') ' ' else text[at];
            at += 1;
        }
    }
    return out[0..length];
}

/// The parts of a multipart body; none for a body that is not multipart, or is malformed.
pub fn multipart(request: edge.Request) []const Part {
    const boundary = parameter(request.headers.map.get("content-type") orelse "", "boundary") orelse return &.{};
    const line = std.mem.concat(allocator, u8, &.{ "\r\n--", boundary }) catch @trap();
    const text = std.mem.concat(allocator, u8, &.{ "\r\n", request.bytes() }) catch @trap();
    var parts: std.ArrayList(Part) = .empty;
    var pieces = std.mem.splitSequence(u8, text, line);
    _ = pieces.next();
    while (pieces.next()) |piece| {
        if (std.mem.startsWith(u8, piece, "--")) return parts.items;
        const blank = std.mem.indexOf(u8, piece, "\r\n\r\n") orelse return &.{};
        parts.append(allocator, readPart(piece[0..blank], piece[blank + 4 ..])) catch @trap();
    }
    return &.{};
}

fn readPart(head: []const u8, body: []const u8) Part {
    var part: Part = .{ .body = body };
    var lines = std.mem.splitSequence(u8, head, "\r\n");
    while (lines.next()) |line| {
        const colon = std.mem.indexOfScalar(u8, line, ':') orelse continue;
        const value = trim(line[colon + 1 ..]);
        if (std.ascii.eqlIgnoreCase(line[0..colon], "content-disposition")) {
            part.name = parameter(value, "name") orelse "";
            part.filename = parameter(value, "filename");
        } else if (std.ascii.eqlIgnoreCase(line[0..colon], "content-type")) {
            part.content_type = value;
        }
    }
    return part;
}

/// A parameter of a header such as `form-data; name="a"; filename="b.txt"`.
fn parameter(header: []const u8, name: []const u8) ?[]const u8 {
    var rest = header[(std.mem.indexOfScalar(u8, header, ';') orelse return null) + 1 ..];
    while (std.mem.indexOfScalar(u8, rest, '=')) |at| {
        const key = trim(rest[0..at]);
        const quoted = at + 1 < rest.len and rest[at + 1] == '"';
        const begin = if (quoted) at + 2 else at + 1;
        const end = std.mem.indexOfScalarPos(u8, rest, begin, if (quoted) '"' else ';') orelse rest.len;
        if (std.ascii.eqlIgnoreCase(key, name)) return trim(rest[begin..end]);
        const next = std.mem.indexOfScalarPos(u8, rest, end, ';') orelse return null;
        rest = rest[next + 1 ..];
    }
    return null;
}

/// Answers with headers of which one may be there repeatedly.
pub fn respond(status: u16, headers: []const Header, body: []const u8) void {
    var map: std.json.ArrayHashMap([]const []const u8) = .{};
    for (headers) |header| {
        const before = map.map.get(header[0]) orelse &.{};
        const values = std.mem.concat(allocator, []const u8, &.{ before, &.{header[1]} }) catch @trap();
        map.map.put(allocator, header[0], values) catch @trap();
    }
    edge.respond(status, map, body);
}

pub fn respondText(status: u16, body: []const u8) void {
    edge.respond(status, .{ .@"content-type" = "text/plain; charset=utf-8" }, body);
}

/// 303 leads to a GET, 307 and 308 keep the method.
pub fn redirect(status: u16, location: []const u8) void {
    edge.respond(status, .{ .location = location }, "");
}

/// application/problem+json, RFC 9457.
pub fn problem(status: u16, title: []const u8, detail: []const u8) void {
    const body = edge.stringify(.{ .title = title, .status = status, .detail = detail });
    edge.respond(status, .{ .@"content-type" = "application/problem+json" }, body);
}

/// The value of a header set-cookie; `attributes` such as "Path=/; HttpOnly" may be "".
pub fn setCookie(name: []const u8, value: []const u8, attributes: []const u8) []const u8 {
    return print("{s}={s}{s}{s}", .{ name, value, if (attributes.len > 0) "; " else "", attributes });
}

/// A text from a format and its values.
pub fn print(comptime format: []const u8, values: anytype) []const u8 {
    return std.fmt.allocPrint(allocator, format, values) catch @trap();
}

/// Lines of the log, with a level that the host takes over.
pub const log = struct {
    pub fn debug(message: []const u8) void {
        write("DEBUG", message);
    }

    pub fn info(message: []const u8) void {
        write("INFO", message);
    }

    pub fn warn(message: []const u8) void {
        write("WARN", message);
    }

    pub fn err(message: []const u8) void {
        write("ERROR", message);
    }

    fn write(level: []const u8, message: []const u8) void {
        const line = print("{s} {s}\n", .{ level, message });
        std.mem.replaceScalar(u8, @constCast(line[0 .. line.len - 1]), '\n', ' ');
        edge.writeAll(2, line);
    }
};

fn trim(text: []const u8) []const u8 {
    return std.mem.trim(u8, text, " \t");
}
