(func $main (call $other))
(func $other (call $main))
