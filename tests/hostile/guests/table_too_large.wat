(table 1000000 funcref)
(func $main)
