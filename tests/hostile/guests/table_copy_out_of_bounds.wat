(table 4 funcref)
(func $main (table.copy (i32.const 2) (i32.const 0) (i32.const 3)))
