(func $main (loop $on (drop (memory.grow (i32.const 0))) (br $on)))
