//! Read an EdgeRequest, call the host, answer.
//!
//!     const edge = @import("edge");
//!
//!     pub fn main() void {
//!         const request = edge.readRequest();
//!         switch (edge.kv.get("cache", request.params.map.get("key") orelse "")) {
//!             .ok => |entry| if (entry) |found| edge.respond(200, .{}, found.value) else edge.respond(404, .{}, ""),
//!             .failed => |failure| edge.respondJson(502, failure),
//!         }
//!     }
//!
//! Memory is never freed: an instance serves one request.

const std = @import("std");
const json = std.json;

/// Cookies, forms, multipart, redirects, problems, logging.
pub const web = @import("web.zig");

pub const allocator = std.heap.wasm_allocator;

/// What the host, or a server it asked, says when a call fails. `code` is stable.
pub const Failure = struct { code: []const u8, message: []const u8 };

pub fn Result(comptime T: type) type {
    return union(enum) { ok: T, failed: Failure };
}

/// Names to texts.
pub const Strings = json.ArrayHashMap([]const u8);

pub const Request = struct {
    path: []const u8,
    method: []const u8,
    url: []const u8 = "",
    headers: Strings = .{},
    query: Strings = .{},
    params: Strings = .{},
    /// All values of the keys of the query that occur more than once.
    multi_value_query: json.ArrayHashMap([]const []const u8) = .{},
    body: ?[]const u8 = null,
    is_base64_encoded: bool = false,

    /// The body, decoded.
    pub fn bytes(request: Request) []const u8 {
        const text = request.body orelse return "";
        if (!request.is_base64_encoded) return text;
        const decoder = std.base64.standard.Decoder;
        const out = allocate(u8, decoder.calcSizeForSlice(text) catch return "");
        decoder.decode(out, text) catch return "";
        return out;
    }
};

/// Traps where stdin holds no EdgeRequest.
pub fn readRequest() Request {
    return parse(Request, readAll()) orelse @trap();
}

/// A JSON text as a T; null where it is none. What T does not name is passed over.
pub fn parse(comptime T: type, text: []const u8) ?T {
    return json.parseFromSliceLeaky(T, allocator, text, .{ .ignore_unknown_fields = true }) catch null;
}

/// A value as JSON, without the optional fields that are null.
pub fn stringify(value: anytype) []const u8 {
    return json.Stringify.valueAlloc(allocator, value, .{ .emit_null_optional_fields = false }) catch @trap();
}

/// Prints the response; `headers` is a struct or Strings. A body that is not UTF-8 goes out as base64.
pub fn respond(status: u16, headers: anytype, body: []const u8) void {
    const plain = std.unicode.utf8ValidateSlice(body);
    writeAll(1, stringify(.{
        .status_code = status,
        .headers = object(headers),
        .body = if (plain) body else base64(body),
        .is_base64_encoded = !plain,
    }));
}

/// `.{}` alone would be a list.
fn object(value: anytype) if (@TypeOf(value) == @TypeOf(.{})) Strings else @TypeOf(value) {
    return if (@TypeOf(value) == @TypeOf(.{})) .{} else value;
}

pub fn respondJson(status: u16, value: anytype) void {
    respond(status, .{ .@"content-type" = "application/json" }, stringify(value));
}

pub const FetchOptions = struct {
    method: []const u8 = "GET",
    headers: Strings = .{},
    body: []const u8 = "",
    /// null for what is left of the invocation.
    timeout_ms: ?u32 = null,
    /// 0 to take a redirect as the response.
    max_redirects: ?u8 = null,
};

pub const Response = struct {
    status: u16,
    /// Names in lower case; all values of each.
    headers: json.ArrayHashMap([]const []const u8),
    /// Where the redirects led.
    url: []const u8,
    body: []const u8,
};

pub fn fetch(url: []const u8, options: FetchOptions) Result(Response) {
    const fields = .{
        .url = url,
        .method = options.method,
        .headers = options.headers,
        .timeoutMs = options.timeout_ms,
        .maxRedirects = options.max_redirects,
    };
    const Fields = struct { status: u16, headers: json.ArrayHashMap([]const []const u8), url: []const u8 };
    return switch (call(Fields, .http_fetch, fields, options.body)) {
        .ok => |reply| .{ .ok = .{
            .status = reply.fields.status,
            .headers = reply.fields.headers,
            .url = reply.fields.url,
            .body = reply.body,
        } },
        .failed => |failure| .{ .failed = failure },
    };
}

pub const kv = struct {
    pub const Entry = struct { value: []const u8, etag: []const u8 };
    pub const Page = struct { keys: []const []const u8, cursor: ?[]const u8 = null };
    pub const ListOptions = struct { prefix: []const u8 = "", cursor: ?[]const u8 = null, limit: ?u16 = null };

    pub fn get(namespace: []const u8, key: []const u8) Result(?Entry) {
        const Fields = struct { found: bool, etag: []const u8 = "" };
        return switch (call(Fields, .kv_get, .{ .namespace = namespace, .key = key }, "")) {
            .ok => |reply| .{ .ok = if (reply.fields.found) .{ .value = reply.body, .etag = reply.fields.etag } else null },
            .failed => |failure| .{ .failed = failure },
        };
    }

    /// The etag of the value. `ttl_ms` null: for ever.
    pub fn set(namespace: []const u8, key: []const u8, value: []const u8, ttl_ms: ?u64) Result([]const u8) {
        const fields = .{ .namespace = namespace, .key = key, .ttlMs = ttl_ms };
        return field([]const u8, "etag", .kv_set, fields, value);
    }

    /// Whether it was there.
    pub fn delete(namespace: []const u8, key: []const u8) Result(bool) {
        return field(bool, "deleted", .kv_delete, .{ .namespace = namespace, .key = key }, "");
    }

    pub fn list(namespace: []const u8, options: ListOptions) Result(Page) {
        const fields = .{
            .namespace = namespace,
            .prefix = options.prefix,
            .cursor = options.cursor,
            .limit = options.limit,
        };
        return switch (call(Page, .kv_list, fields, "")) {
            .ok => |reply| .{ .ok = reply.fields },
            .failed => |failure| .{ .failed = failure },
        };
    }

    /// The sum.
    pub fn increment(namespace: []const u8, key: []const u8, by: i64) Result(i64) {
        return field(i64, "value", .kv_increment, .{ .namespace = namespace, .key = key, .by = by }, "");
    }

    /// Sets where the value still has the etag, or where there is no value for null. The new etag, null where not.
    pub fn compareAndSet(
        namespace: []const u8,
        key: []const u8,
        etag: ?[]const u8,
        value: []const u8,
        ttl_ms: ?u64,
    ) Result(?[]const u8) {
        const fields = .{ .namespace = namespace, .key = key, .etag = etag, .ttlMs = ttl_ms };
        return field(?[]const u8, "etag", .kv_cas, fields, value);
    }
};

pub const queue = struct {
    /// The id of the message.
    pub fn publish(name: []const u8, body: []const u8, attributes: Strings) Result([]const u8) {
        return field([]const u8, "id", .queue_publish, .{ .queue = name, .attributes = attributes }, body);
    }
};

/// Attributes are a struct of texts, numbers and bools, `.{}` for none.
pub const trace = struct {
    /// 0 where nobody records the trace; then what is done with it goes well, and does nothing.
    pub const Span = enum(u32) { _ };

    pub fn start(name: []const u8, attributes: anytype) Result(Span) {
        const fields = .{ .name = name, .attributes = object(attributes) };
        return switch (field(u32, "span", .trace_start, fields, "")) {
            .ok => |span| .{ .ok = @enumFromInt(span) },
            .failed => |failure| .{ .failed = failure },
        };
    }

    /// `failed` is what went wrong in the span, null where nothing did.
    pub fn end(span: Span, failed: ?[]const u8) Result(void) {
        return record(.trace_end, .{ .span = @intFromEnum(span), .@"error" = failed });
    }

    /// null stands for the span that was started last, of those that are open; else the function's own.
    pub fn set(span: ?Span, attributes: anytype) Result(void) {
        return record(.trace_set, .{ .span = number(span), .attributes = object(attributes) });
    }

    /// The same.
    pub fn event(span: ?Span, name: []const u8, attributes: anytype) Result(void) {
        return record(.trace_event, .{ .span = number(span), .name = name, .attributes = object(attributes) });
    }

    fn number(span: ?Span) ?u32 {
        return if (span) |one| @intFromEnum(one) else null;
    }

    fn record(operation: Operation, fields: anytype) Result(void) {
        return switch (call(struct {}, operation, fields, "")) {
            .ok => .{ .ok = {} },
            .failed => |failure| .{ .failed = failure },
        };
    }
};

pub const Operation = enum(i32) {
    http_fetch = 1,
    kv_get = 2,
    kv_set = 3,
    kv_delete = 4,
    kv_list = 5,
    kv_increment = 6,
    kv_cas = 7,
    queue_publish = 8,
    trace_start = 9,
    trace_end = 10,
    trace_set = 11,
    trace_event = 12,
};

pub fn Reply(comptime Fields: type) type {
    return struct { fields: Fields, body: []const u8 };
}

const host = struct {
    extern "edge" fn call(operation: i32, payload: [*]const u8, length: usize) i32;
    extern "edge" fn take(pointer: [*]u8) i32;
};

/// The call under all the others: fields and body out, fields and body in.
pub fn call(comptime Fields: type, operation: Operation, fields: anytype, body: []const u8) Result(Reply(Fields)) {
    const header = stringify(fields);
    const payload = allocate(u8, 4 + header.len + body.len);
    std.mem.writeInt(u32, payload[0..4], header.len, .little);
    @memcpy(payload[4..][0..header.len], header);
    @memcpy(payload[4 + header.len ..], body);

    const size = host.call(@intFromEnum(operation), payload.ptr, payload.len);
    if (size < 0) return .{ .failed = callFailed("edge.call", -size) };
    const frame = allocate(u8, @intCast(size));
    const errno = host.take(frame.ptr);
    if (errno != 0) return .{ .failed = callFailed("edge.take", errno) };

    const end = 4 + std.mem.readInt(u32, frame[0..4], .little);
    const Outcome = struct { ok: bool, @"error": ?Failure = null };
    const outcome = parse(Outcome, frame[4..end]) orelse @trap();
    if (outcome.@"error") |failure| return .{ .failed = failure };
    return .{ .ok = .{ .fields = parse(Fields, frame[4..end]) orelse @trap(), .body = frame[end..] } };
}

/// A call of whose result one field matters; null where an optional one is missing.
fn field(comptime T: type, comptime name: []const u8, operation: Operation, fields: anytype, body: []const u8) Result(T) {
    return switch (call(json.ArrayHashMap(json.Value), operation, fields, body)) {
        .ok => |reply| .{ .ok = if (reply.fields.map.get(name)) |value|
            json.parseFromValueLeaky(T, allocator, value, .{}) catch @trap()
        else if (@typeInfo(T) == .optional) null else @trap() },
        .failed => |failure| .{ .failed = failure },
    };
}

fn callFailed(import: []const u8, errno: i32) Failure {
    const message = std.fmt.allocPrint(allocator, "{s}: errno {d}", .{ import, errno }) catch @trap();
    return .{ .code = "call-failed", .message = message };
}

fn base64(bytes: []const u8) []const u8 {
    const encoder = std.base64.standard.Encoder;
    return encoder.encode(allocate(u8, encoder.calcSize(bytes.len)), bytes);
}

fn allocate(comptime T: type, count: usize) []T {
    return allocator.alloc(T, count) catch @trap();
}

fn readAll() []const u8 {
    var buffer = allocate(u8, 16 << 10);
    var length: usize = 0;
    while (true) {
        var got: usize = 0;
        const rest = [1]std.posix.iovec{.{ .base = buffer.ptr + length, .len = buffer.len - length }};
        if (std.os.wasi.fd_read(0, &rest, 1, &got) != .SUCCESS or got == 0) return buffer[0..length];
        length += got;
        if (length == buffer.len) buffer = allocator.realloc(buffer, 2 * length) catch @trap();
    }
}

/// Writes to a file descriptor: 1 is the answer, 2 the log.
pub fn writeAll(descriptor: i32, bytes: []const u8) void {
    var left = bytes;
    while (left.len > 0) {
        var put: usize = 0;
        const rest = [1]std.posix.iovec_const{.{ .base = left.ptr, .len = left.len }};
        if (std.os.wasi.fd_write(descriptor, &rest, 1, &put) != .SUCCESS or put == 0) @trap();
        left = left[put..];
    }
}
