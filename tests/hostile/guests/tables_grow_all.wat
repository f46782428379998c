;; Seven tables, each as large as it gets.
(table $a 0 funcref) (table $b 0 externref) (table $c 0 funcref) (table $d 0 funcref) (table $e 0 externref)
(table $f 0 funcref) (table $g 0 funcref)
(func $main
  (call $say (table.grow $a (ref.null func) (i32.const 100000)))
  (call $say (table.grow $b (ref.null extern) (i32.const 100000)))
  (call $say (table.grow $c (ref.null func) (i32.const 100000)))
  (call $say (table.grow $d (ref.null func) (i32.const 100000)))
  (call $say (table.grow $e (ref.null extern) (i32.const 100000)))
  (call $say (table.grow $f (ref.null func) (i32.const 100000)))
  (call $say (table.grow $g (ref.null func) (i32.const 100000))))
