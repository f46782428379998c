(func $main (drop (i64.load (i32.const 65529))))
