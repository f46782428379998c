;; It would end, in some centuries.
(func $main (local $i i64)
  (loop $on
    (br_if $on (i64.ne (local.tee $i (i64.add (local.get $i) (i64.const 1))) (i64.const 0)))))
