;; Calls without end, each refused.
(func $main (loop $on (drop (call $edge_call (i32.const 99) (i32.const 0) (i32.const 0))) (br $on)))
