(func $main (local $x v128)
  (loop $on
    (local.set $x (i8x16.shuffle 15 14 13 12 11 10 9 8 7 6 5 4 3 2 1 0 (local.get $x) (i64x2.mul (local.get $x) (local.get $x))))
    (br $on)))
