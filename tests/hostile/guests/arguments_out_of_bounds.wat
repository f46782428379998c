(func $main (drop (call $args_get (i32.const -1) (i32.const 0))))
