;; Names that the host uses for its own exports.
(func $main (call $say (i32.const 1)))
(global (export "edge:io") i32 (i32.const 0))
(func (export "edge:main") unreachable)
(table (export "edge:host") 1 funcref)
