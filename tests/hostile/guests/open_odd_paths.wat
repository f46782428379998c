;; Empty, endless, with NUL, in a loop, not UTF-8, through a file.
(data (i32.const 0) "loop/x")
(data (i32.const 32) "\ff\fe")
(data (i32.const 64) "a.txt/x")
(data (i32.const 96) "a.txt\00")
(func $try (param $path i32) (param $len i32)
  (call $say (i32.ne (i32.const 0) (call $open (local.get $path) (local.get $len) (i32.const 0) (i64.const 2)))))
(func $main
  (call $try (i32.const 0) (i32.const 0))
  (call $try (i32.const 1024) (i32.const 50000))
  (call $try (i32.const 0) (i32.const 6))
  (call $try (i32.const 32) (i32.const 2))
  (call $try (i32.const 64) (i32.const 7))
  (call $try (i32.const 96) (i32.const 6)))
