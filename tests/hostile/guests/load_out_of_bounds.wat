(func $main (drop (i32.load (i32.const 65536))))
