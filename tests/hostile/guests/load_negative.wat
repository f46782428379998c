(func $main (drop (i32.load8_u (i32.const -1))))
