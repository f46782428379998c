(func $main (call $main))
