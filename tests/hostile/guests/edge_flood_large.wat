;; A mebibyte each time: the host copies it, and counts.
(memory (export "memory") 33)
(func $main (loop $on (drop (call $edge_call (i32.const 2) (i32.const 65536) (i32.const 2097152))) (br $on)))
