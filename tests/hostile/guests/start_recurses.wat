(start $first)
(func $first (call $first))
(func $main)
