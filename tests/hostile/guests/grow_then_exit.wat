(func $main (drop (memory.grow (i32.const 100000))) (call $proc_exit (i32.const 1)))
