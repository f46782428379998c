;; An absolute time that is over: an answer at once.
(data (i32.const 16) "\01\00\00\00\00\00\00\00\01\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\01")
(func $main
  (call $say (call $poll_oneoff (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))
  (call $say (i32.load (i32.const 128))))
