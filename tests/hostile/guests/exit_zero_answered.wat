(func $main (call $say (i32.const 5)) (call $answer) (call $proc_exit (i32.const 0)))
