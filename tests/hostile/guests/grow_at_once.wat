(func $main (drop (memory.grow (i32.const 65535))) unreachable)
