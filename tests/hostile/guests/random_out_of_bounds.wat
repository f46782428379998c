(func $main (drop (call $random_get (i32.const 60000) (i32.const -1))))
