;; A capability asked for before _start.
(start $first)
(func $first (drop (call $edge_call (i32.const 1) (i32.const 0) (i32.const 0))))
(func $main (call $say (call $edge_take (i32.const 0))))
