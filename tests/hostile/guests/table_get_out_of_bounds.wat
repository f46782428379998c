(table 1 funcref)
(func $main (drop (table.get (i32.const -1))))
