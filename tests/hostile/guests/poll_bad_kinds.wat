;; A kind that is none, a clock that is none, descriptors that are not there.
(data (i32.const 8) "\09")
(data (i32.const 264) "\00\00\00\00\00\00\00\00\ff\ff\ff\ff")
(data (i32.const 520) "\01\00\00\00\00\00\00\00\ff\ff\ff\7f")
(func $main
  (call $say (call $poll_oneoff (i32.const 0) (i32.const 1024) (i32.const 1) (i32.const 1100)))
  (call $say (call $poll_oneoff (i32.const 256) (i32.const 1024) (i32.const 1) (i32.const 1100)))
  (call $say (i32.load16_u (i32.const 1032)))
  (call $say (call $poll_oneoff (i32.const 512) (i32.const 1024) (i32.const 1) (i32.const 1100))))
