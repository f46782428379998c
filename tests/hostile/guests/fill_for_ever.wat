(memory (export "memory") 64)
(func $main (loop $on (memory.fill (i32.const 65536) (i32.const 7) (i32.const 4128768)) (br $on)))
