(func $main
  (call $say (call $clock_time_get (i32.const 4) (i64.const 0) (i32.const 0)))
  (call $say (call $clock_time_get (i32.const -1) (i64.const 0) (i32.const 0)))
  (call $say (call $clock_res_get (i32.const 99) (i32.const 0))))
