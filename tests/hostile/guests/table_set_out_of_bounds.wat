(table 1 funcref)
(func $main (table.set (i32.const 1) (ref.null func)))
