(start $first)
(func $first (call $proc_exit (i32.const 7)))
(func $main)
