(table 1 funcref)
(elem (i32.const 5) $main)
(func $main)
