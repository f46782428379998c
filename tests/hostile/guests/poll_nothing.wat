(func $main
  (call $say (call $poll_oneoff (i32.const 0) (i32.const 64) (i32.const 0) (i32.const 128)))
  (call $say (call $poll_oneoff (i32.const 0) (i32.const 64) (i32.const -1) (i32.const 128)))
  (call $say (call $poll_oneoff (i32.const 0) (i32.const 64) (i32.const 0x80000000) (i32.const 128)))
  (call $say (call $poll_oneoff (i32.const 0) (i32.const 64) (i32.const 65) (i32.const 128))))
