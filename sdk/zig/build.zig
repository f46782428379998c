const std = @import("std");

pub fn build(b: *std.Build) void {
    _ = b.addModule("edge", .{ .root_source_file = b.path("edge.zig") });
}
