;; The new descriptor is written over the path, and over the 64 bytes that the host borrows.
(data (i32.const 0) "a.txt")
(data (i32.const 16) "keep")
(func $main
  (call $say (call $path_open (i32.const 3) (i32.const 1) (i32.const 0) (i32.const 5) (i32.const 0) (i64.const 2) (i64.const 2)
    (i32.const 0) (i32.const 0)))
  (call $say (i32.eq (i32.load (i32.const 16)) (i32.const 0x7065656b))))
