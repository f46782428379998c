(table 1 funcref)
(elem (i32.const 0) $nothing)
(func $nothing)
(func $main (loop $on (call_indirect (i32.const 0)) (br $on)))
