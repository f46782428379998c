(table 1 funcref)
(elem (i32.const 0) $main)
(func $main (call_indirect (i32.const 0)))
