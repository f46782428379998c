;; Would wait for a writer, for ever.
(data (i32.const 0) "fifo")
(data (i32.const 16) "to-fifo")
(func $main
  (call $say (call $open (i32.const 0) (i32.const 4) (i32.const 0) (i64.const 2)))
  (call $say (call $open (i32.const 16) (i32.const 7) (i32.const 0) (i64.const 2)))
  (call $say (call $open (i32.const 0) (i32.const 4) (i32.const 0) (i64.const 66))))
