(func $main (local $x i64)
  (loop $on
    (local.set $x (i64.add (local.get $x) (i64.div_s (i64.const -9223372036854775807) (i64.const 3))))
    (br $on)))
