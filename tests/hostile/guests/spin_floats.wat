;; Denormal numbers are slow on many processors.
(func $main (local $x f64)
  (local.set $x (f64.const 0x1p-1060))
  (loop $on
    (local.set $x (f64.sqrt (f64.mul (f64.div (local.get $x) (f64.const 3)) (f64.const 0x1p-1060))))
    (br $on)))
