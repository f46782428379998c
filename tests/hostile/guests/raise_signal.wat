(func $main (call $say (call $proc_raise (i32.const 9))))
