(table 1 funcref)
(elem (i32.const 0) $other)
(func $other (param i64))
(func $main (call_indirect (i32.const 0)))
