(func $main (memory.copy (i32.const 0) (i32.const 60000) (i32.const 60000)))
