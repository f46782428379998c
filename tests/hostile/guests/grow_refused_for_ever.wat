(func $main (loop $on (drop (memory.grow (i32.const 65536))) (br $on)))
