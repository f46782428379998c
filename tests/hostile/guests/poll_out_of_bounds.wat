(func $main
  (call $say (call $poll_oneoff (i32.const 65530) (i32.const 64) (i32.const 1) (i32.const 128)))
  (call $say (call $poll_oneoff (i32.const 0) (i32.const -8) (i32.const 1) (i32.const 128)))
  (call $say (call $poll_oneoff (i32.const 0) (i32.const 64) (i32.const 1) (i32.const -1)))
  (call $say (call $poll_oneoff (i32.const -1) (i32.const -1) (i32.const 64) (i32.const -1))))
