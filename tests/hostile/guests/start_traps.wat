(start $first)
(func $first unreachable)
(func $main)
