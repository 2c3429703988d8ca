//! Reserved concurrency, and the floor that reservations leave to everybody else.

use super::provisioned::{allocated, provisioned_of};
use super::{Control, Edit, Functions};
use crate::function::Function;
use model::error::{ApiError, ErrorCode, Violation};
use model::name::LATEST;
use std::sync::Arc;

impl Control {
    /// Reserves concurrency for a function; 0 stops it.
    ///
    /// # Errors
    /// There is no such function, or too little would be left unreserved.
    pub fn put_concurrency(&self, function: &str, reserved: Option<i64>) -> Result<Arc<Function>, ApiError> {
        let asked = reserved
            .ok_or_else(|| ApiError::validations(&[Violation::missing("reservedConcurrentExecutions")]))?;
        let reserved = u32::try_from(asked).map_err(|_| {
            let constraint = if asked < 0 {
                "Member must have value greater than or equal to 0".to_owned()
            } else {
                format!("Member must have value less than or equal to {}", u32::MAX)
            };
            ApiError::validation(&asked.to_string(), "reservedConcurrentExecutions", &constraint)
        })?;
        self.reserve(function, Some(reserved))
    }

    /// The reservation of a function, if it has one.
    ///
    /// # Errors
    /// There is no such function.
    pub fn get_concurrency(&self, function: &str) -> Result<Option<u32>, ApiError> {
        Ok(self.resolve_unqualified(function)?.reserved)
    }

    /// Takes a function's reservation away.
    ///
    /// # Errors
    /// There is no such function.
    pub fn delete_concurrency(&self, function: &str) -> Result<(), ApiError> {
        self.reserve(function, None).map(drop)
    }

    /// Concurrency that no function has reserved.
    pub fn unreserved_concurrency(&self) -> u32 {
        let reserved: u64 =
            self.snapshot().known().filter_map(|function| function.reserved).map(u64::from).sum();
        let left = u64::from(self.options.account_concurrency).saturating_sub(reserved);
        u32::try_from(left).unwrap_or(u32::MAX)
    }

    fn reserve(&self, function: &str, reserved: Option<u32>) -> Result<Arc<Function>, ApiError> {
        let found = self.resolve_unqualified(function);
        // Recorded so: the one operation that names what it looked for by its version.
        let name = found.map_err(|error| match (error.code, reserved) {
            (ErrorCode::ResourceNotFound, Some(_)) if error.message.starts_with("Function not found") => {
                ApiError::new(error.code, format!("{}:{LATEST}", error.message))
            }
            _ => error,
        })?;
        let name = name.name.clone();
        self.change(|functions| {
            let before = functions.get(&name).ok_or_else(|| self.missing(&name))?;
            if before.reserved == reserved {
                return Ok(Edit::Keep(Arc::clone(before)));
            }
            self.check_floor(functions, &name, reserved)?;
            Ok(Edit::Reserve(Box::new(Function { reserved, ..Function::clone(before) })))
        })
    }

    /// Checks that enough stays unreserved.
    ///
    /// # Errors
    /// The recorded text.
    pub(super) fn check_floor(
        &self,
        functions: &Functions,
        name: &str,
        reserved: Option<u32>,
    ) -> Result<(), ApiError> {
        let Some(asked) = reserved else { return Ok(()) };
        let provisioned = functions.get(name).map_or(0, |function| provisioned_of(function));
        if asked < provisioned {
            // The space in front is AWS's.
            return Err(ApiError::invalid(format!(
                " ReservedConcurrentExecutions  {asked} should not be lower than function's total provisioned concurrency [{provisioned}]."
            )));
        }
        self.check_room(functions, name, asked)
    }

    /// The same, whatever is provisioned for the function itself at present.
    ///
    /// # Errors
    /// The recorded text.
    pub(super) fn check_room(&self, functions: &Functions, name: &str, asked: u32) -> Result<(), ApiError> {
        let others: u64 = functions.known().filter(|function| function.name != name).map(allocated).sum();
        let floor = self.options.unreserved_minimum;
        // Nothing can be taken from the floor, so reserving nothing is always allowed.
        if asked > 0
            && others + u64::from(asked) + u64::from(floor) > u64::from(self.options.account_concurrency)
        {
            return Err(ApiError::new(
                ErrorCode::InvalidParameterValue,
                format!(
                    "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [{floor}]."
                ),
            ));
        }
        Ok(())
    }
}
