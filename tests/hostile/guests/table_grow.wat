(table 0 funcref)
(func $main
  (call $say (table.grow (ref.null func) (i32.const -1)))
  (call $say (table.grow (ref.null func) (i32.const 100001)))
  (call $say (table.grow (ref.null func) (i32.const 100000)))
  (call $say (table.grow (ref.null func) (i32.const 1))))
