;; Calls without end, each answered at once.
(func $main (loop $on (drop (call $edge_call (i32.const 1) (i32.const -1) (i32.const 1))) (br $on)))
