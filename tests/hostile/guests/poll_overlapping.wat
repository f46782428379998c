;; Events over their subscriptions, and the count over the events.
(data (i32.const 56) "\01")
(func $main
  (call $say (call $poll_oneoff (i32.const 0) (i32.const 0) (i32.const 2) (i32.const 0)))
  (call $say (i32.load (i32.const 0))))
