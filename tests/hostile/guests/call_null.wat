(table 1 funcref)
(func $main (call_indirect (i32.const 0)))
