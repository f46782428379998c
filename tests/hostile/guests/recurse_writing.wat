;; A host body on every frame.
(data (i32.const 64) "\10\00\00\00\01\00\00\00")
(func $main
  (drop (call $fd_write (i32.const 2) (i32.const 64) (i32.const 1) (i32.const 80)))
  (call $main))
