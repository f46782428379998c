(memory (export "memory") 64)
(func $main (loop $on (drop (call $random_get (i32.const 65536) (i32.const 4000000))) (br $on)))
