// SPDX-License-Identifier: GPL-2.0

//! Host only: what each task has to itself. A task is a thread; in a model, where one thread of the
//! host plays all tasks, it is whom the model runs just now.

#[cfg(models)]
use core::cell::RefCell;
#[cfg(models)]
use std::{
    collections::BTreeMap,
    rc::Rc, //
};

/// A value for each task. Stands in a `std::thread_local!`.
#[derive(Debug, Default)]
pub struct TaskLocal<T> {
    #[cfg(not(models))]
    value: T,
    #[cfg(models)]
    values: RefCell<BTreeMap<(u64, u64), Rc<T>>>,
}

impl<T: Default> TaskLocal<T> {
    /// Passes on this task's value, which begins as the default.
    #[cfg(not(models))]
    pub fn with<R>(&self, f: impl FnOnce(&T) -> R) -> R {
        f(&self.value)
    }

    /// Passes on this task's value, which begins as the default in each execution of a model.
    #[cfg(models)]
    pub fn with<R>(&self, f: impl FnOnce(&T) -> R) -> R {
        let task = crate::models::task();
        let mut values = self.values.borrow_mut();
        if let Some((&(execution, _), _)) = values.first_key_value() {
            if execution != task.0 {
                values.clear();
            }
        }
        let value = values.entry(task).or_default().clone();
        drop(values);
        f(&value)
    }
}
