;; A branch through a table that always leads back.
(func $main (local $i i32)
  (loop $on
    (block $a (block $b (block $c (block $d
      (br_table $a $b $c $d $on $on $on $a $b $c $d $on (local.tee $i (i32.add (local.get $i) (i32.const 7))))))))
    (br $on)))
